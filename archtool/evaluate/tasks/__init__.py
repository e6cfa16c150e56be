"""One file per task; each has ``run(module, settings) -> Metrics``."""
