"""Models come from folders and hub names; what cannot be loaded says why."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.models_made_here import save_model

from agentlightning.engine.torch.loading import choose_device, choose_dtype, load
from agentlightning.errors import ConfigError, ModelError


def test_a_folder_loads_in_the_precision_of_the_device(tmp_path: Path) -> None:
    loaded = load(save_model(tmp_path / "m"), device="cpu")
    assert str(loaded.model.dtype) == "torch.float32"
    assert not loaded.model.training
    assert loaded.tokenizer.chat_template


def test_a_precision_can_be_asked_for(tmp_path: Path) -> None:
    assert str(load(save_model(tmp_path / "m"), device="cpu", dtype="bfloat16").model.dtype) == "torch.bfloat16"
    with pytest.raises(ConfigError, match="int3"):
        choose_dtype("int3", "cpu")


def test_a_missing_folder_is_not_asked_for_on_the_hub(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no folder"):
        load(str(tmp_path / "nowhere"), device="cpu")


def test_a_folder_without_a_model_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json"):
        load(tmp_path, device="cpu")


def test_a_model_that_generates_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(ModelError, match="causal language model"):
        load(tmp_path, device="cpu")


def test_a_model_whose_weights_are_missing_is_refused(tmp_path: Path) -> None:
    folder = Path(save_model(tmp_path / "m"))
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="there is no model"):
        load(folder, device="cpu")


def test_the_environment_chooses_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTLIGHTNING_DEVICE", "cpu")
    assert choose_device() == "cpu"
    monkeypatch.setenv("AGENTLIGHTNING_DEVICE", "cuda:99")
    with pytest.raises(ConfigError, match="AGENTLIGHTNING_DEVICE=cpu"):
        choose_device()
    with pytest.raises(ConfigError, match="none of cpu, cuda"):
        choose_device("gpu")


def test_attention_that_reads_no_masks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="sdpa and eager"):
        load(save_model(tmp_path / "m"), device="cpu", attention="flash_attention_2")
