"""Counting and timing: parameters, MACs, bytes, memory, and latency on the runtime that will run it."""
