"""Experiment trackers: each hears of a run as a callback, and none is imported before it is asked for."""

from agentlightning.registry import Registry

TRACKERS = Registry(
    "tracker",
    {
        "tensorboard": "agentlightning.trainer.trackers.tensorboard:TensorBoard",
        "mlflow": "agentlightning.trainer.trackers.mlflow:MLflow",
        "wandb": "agentlightning.trainer.trackers.wandb:WandB",
        "trackio": "agentlightning.trainer.trackers.trackio:Trackio",
    },
)
