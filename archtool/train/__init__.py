"""The one training loop: from scratch, distillation and recovery, with exact resume.

`archtool.train.loop.fit` trains a module with an objective; `archtool.train.run.train` does so for a checkpoint. Other
ways to train (sub-network sampling, self-distillation) are other objectives, never another loop.
"""
