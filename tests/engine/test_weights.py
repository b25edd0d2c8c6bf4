"""Adapters and versions by name: what is computed under which name, what is kept, what is written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.models_made_here import make_model, make_tokenizer

from agentlightning.engine.torch.folders import settle, whole_folder
from agentlightning.engine.torch.weights import AdapterPlan, Weights
from agentlightning.errors import ConfigError, ModelError

METHODS = ["lora", "full"]
ALL_LINEAR = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


def library(method: str = "lora", **settings: Any) -> Weights:
    return Weights(make_model(), make_tokenizer(), plan=AdapterPlan(method=method), **settings)  # type: ignore[arg-type]


def logits(weights: Weights, name: str) -> Any:
    import torch

    with torch.no_grad(), weights.using(name) as model:
        assert not model.training
        return model(torch.arange(5, 25)[None]).logits


def learned(weights: Weights, adapter: str, seed: int = 0) -> str:
    """The adapter after a random move, as a version."""
    import torch

    draw = torch.Generator().manual_seed(seed)
    for parameter in weights.parameters(adapter):
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=draw)
    return weights.snapshot(adapter)


def are_equal(some: Any, others: Any) -> bool:
    return bool((some == others).all())


@pytest.mark.parametrize("method", METHODS)
def test_a_version_stays_while_its_adapter_learns_on(method: str) -> None:
    weights = library(method)
    base = logits(weights, "")
    first = learned(weights, "a")
    then = logits(weights, first)
    assert are_equal(logits(weights, "a"), then) and not are_equal(then, base)
    second = learned(weights, "a")
    assert second != first and not are_equal(logits(weights, "a"), then)
    assert are_equal(logits(weights, first), then) and are_equal(logits(weights, ""), base)


@pytest.mark.parametrize("method", METHODS)
def test_what_never_learned_is_the_base_model(method: str) -> None:
    weights = library(method)
    base = logits(weights, "")
    assert weights.snapshot("a") == ""
    weights.make("a")
    assert weights.snapshot("a") == "" and are_equal(logits(weights, "a"), base)
    assert are_equal(logits(weights, "never heard of"), base)


@pytest.mark.parametrize("method", METHODS)
def test_adapters_do_not_touch_each_other(method: str) -> None:
    weights = library(method)
    learned(weights, "a", seed=1)
    before = logits(weights, "a")
    learned(weights, "b", seed=2)
    assert are_equal(logits(weights, "a"), before) and not are_equal(logits(weights, "b"), before)


@pytest.mark.parametrize("method", METHODS)
def test_equal_weights_have_equal_names_and_others_do_not(method: str) -> None:
    one, two = library(method), library(method)
    names = [learned(one, "a"), learned(two, "b"), learned(two, "c", seed=1)]
    assert names[0] == names[1] != names[2]
    assert all(len(name) == 14 and name.startswith("w-") for name in names)


@pytest.mark.parametrize("method", METHODS)
def test_an_adapter_goes_back_to_a_version_and_to_the_base(method: str) -> None:
    weights = library(method)
    first, _ = learned(weights, "a"), learned(weights, "a")
    weights.start_from("a", first)
    assert weights.snapshot("a") == first == weights.start_of("a")
    weights.start_from("a", "")
    assert weights.snapshot("a") == "" == weights.start_of("a")


@pytest.mark.parametrize("method", METHODS)
def test_versions_beyond_the_bound_lie_on_disk_and_come_back(method: str, tmp_path: Path) -> None:
    weights = library(method, folder=tmp_path, max_memory_bytes=1, max_resident=1)
    names = [learned(weights, "a", seed) for seed in range(4)]
    seen = [logits(weights, name) for name in names]
    assert len(list(tmp_path.glob("w-*.safetensors"))) >= 3
    assert all(are_equal(logits(weights, name), then) for name, then in zip(names, seen))


def test_an_unknown_version_and_a_bad_name_are_refused() -> None:
    weights = library()
    with pytest.raises(ModelError, match="'w-000000000000' are not known here"), weights.using("w-000000000000"):
        pass
    for name in ("", "w-mine"):
        with pytest.raises(ConfigError, match="cannot be named"):
            weights.make(name)


def test_two_names_cannot_be_at_work_at_once() -> None:
    weights = library()
    version = learned(weights, "a")
    with weights.using("a"), pytest.raises(RuntimeError, match="in use"), weights.using(version):
        pass
    assert logits(weights, version) is not None


def test_switching_is_far_cheaper_than_a_forward_pass() -> None:
    weights = library()
    version = learned(weights, "a")
    logits(weights, version)
    start = time.perf_counter()
    for _ in range(100):
        for name in ("", "a", version):
            with weights.using(name):
                pass
    switching = (time.perf_counter() - start) / 300
    start = time.perf_counter()
    for _ in range(10):
        logits(weights, "a")
    assert switching < (time.perf_counter() - start) / 10 / 5


@pytest.mark.parametrize("method", METHODS)
def test_a_saved_version_loads_under_its_name(method: str, tmp_path: Path) -> None:
    weights, other = library(method), library(method)
    name = learned(weights, "a")
    weights.save(name, tmp_path / "saved")
    assert other.load(tmp_path / "saved") == name
    assert are_equal(logits(other, name), logits(weights, name))


def test_a_saved_adapter_is_what_peft_and_vllm_load(tmp_path: Path) -> None:
    import torch
    from peft import PeftModel

    weights = library()
    name = learned(weights, "a")
    weights.save(name, tmp_path / "saved")
    assert {path.name for path in (tmp_path / "saved").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    import warnings

    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # peft asks transformers for something deprecated
        model = PeftModel.from_pretrained(make_model(), str(tmp_path / "saved")).eval()
        assert torch.allclose(model(torch.arange(5, 25)[None]).logits, logits(weights, name), atol=1e-6)
    config = json.loads((tmp_path / "saved" / "adapter_config.json").read_text())
    assert config["peft_type"] == "LORA" and config["r"] == 16 and config["base_model_name_or_path"] == ""
    assert {name.rpartition(".")[2] for name in config["target_modules"]} == ALL_LINEAR


@pytest.mark.parametrize("method", METHODS)
def test_an_exported_model_needs_neither_us_nor_peft(method: str, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    weights = library(method)
    name = learned(weights, "a")
    before = logits(weights, "")
    weights.export(name, tmp_path / "whole")
    with torch.no_grad():
        model = AutoModelForCausalLM.from_pretrained(tmp_path / "whole").eval()
        assert torch.allclose(model(torch.arange(5, 25)[None]).logits, logits(weights, name), atol=1e-5)
    assert AutoTokenizer.from_pretrained(tmp_path / "whole").chat_template
    assert are_equal(logits(weights, ""), before)


def test_an_adapter_of_another_shape_is_refused_with_the_reason(tmp_path: Path) -> None:
    weights = library()
    weights.save(learned(weights, "a"), tmp_path / "saved")
    wider = Weights(make_model(hidden_size=64), plan=AdapterPlan())
    with pytest.raises(
        ModelError, match=r"does not fit the base model: .*lora_.* has shape \(\d+, \d+\), the model has"
    ):
        wider.load(tmp_path / "saved")
    with pytest.raises(ModelError, match="holds a LoRA adapter, and this engine's adapters are of method 'full'"):
        library("full").load(tmp_path / "saved")
    with pytest.raises(ModelError, match="holds no saved weights"):
        weights.load(tmp_path / "nothing")


def test_a_file_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    weights = library()
    weights.save(learned(weights, "a"), tmp_path / "saved")
    file = tmp_path / "saved" / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ModelError, match="cannot be read as saved weights"):
        library().load(tmp_path / "saved")


def test_adapters_of_other_ranks_can_be_loaded_beside_ours(tmp_path: Path) -> None:
    small = Weights(make_model(), plan=AdapterPlan(rank=4, alpha=4))
    name = learned(small, "a")
    small.save(name, tmp_path / "small")
    weights = library()
    assert weights.load(tmp_path / "small") == name
    assert are_equal(logits(weights, name), logits(small, name))
    weights.start_from("b", name)
    assert weights.snapshot("b") == name


KILLED = """
import os, sys
from pathlib import Path
from tests.engine.test_weights import learned, library
weights = library()
while True:
    for seed in (1, 2):
        weights.start_from("a", "")
        weights.save(learned(weights, "a", seed), Path(sys.argv[1]))
        print("saved", flush=True)
"""


def test_a_save_that_is_killed_leaves_the_last_good_one(tmp_path: Path) -> None:
    place = tmp_path / "saved"
    expected = {learned(library(), "a", seed) for seed in (1, 2)}
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", KILLED, str(place)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment) as process:
        assert process.stdout
        for _ in range(3):
            assert process.stdout.readline() == b"saved\n"
        time.sleep(0.013)
        process.send_signal(signal.SIGKILL)
    assert library().load(place) in expected


def test_a_folder_that_stepped_aside_is_put_back(tmp_path: Path) -> None:
    """The one moment in which a kill finds no folder: between the two moves."""
    place = tmp_path / "saved"
    with whole_folder(place) as draft:
        (draft / "a").write_text("good")
    place.rename(tmp_path / ".saved.before")
    settle(place)
    assert (place / "a").read_text() == "good"


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    place = tmp_path / "saved"
    with whole_folder(place) as draft:
        (draft / "a").write_text("good")
    with pytest.raises(ZeroDivisionError), whole_folder(place) as draft:
        (draft / "a").write_text("bad")
        raise ZeroDivisionError
    assert (place / "a").read_text() == "good" and [path.name for path in tmp_path.iterdir()] == ["saved"]
