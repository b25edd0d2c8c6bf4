"""Where everything a run does is kept: the only memory that two rooms share."""

from agentlightning.registry import Registry

STORES = Registry(
    "store",
    {
        "sqlite": "agentlightning.store.sqlite:SQLiteStore",
        "postgresql": "agentlightning.store.postgres:PostgresStore",
        "postgres": "agentlightning.store.postgres:PostgresStore",
        **dict.fromkeys(("s3", "az", "gs", "segments"), "agentlightning.store.objects:SegmentStore"),
    },
)
