"""The whole graph, killed at random moments, ends in the same bytes. The benchmark ``kills whole`` does it 100 times."""

import subprocess
import sys

import pytest


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_and_ends_in_the_same_bytes():
    command = [sys.executable, "-m", "vdm_pipeline_tests.benchmarks.kills", "whole", "--kills", "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert "0 with other bytes" in done.stdout.splitlines()[-1]
