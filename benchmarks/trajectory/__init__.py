"""Trajectory latency: workloads, replays and reports (imported as `sfi_sglang.trajectory`, command `sfi-bench`)."""
