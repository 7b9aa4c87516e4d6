"""The tracker around a real training loop on CPU torch; run by `make test-ml`."""

from pathlib import Path

import pytest

import ergonaut

torch = pytest.importorskip("torch", reason="run by make test-ml, which installs torch")


def test_a_torch_training_loop_is_accounted_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ERGONAUT_HOME", str(tmp_path))
    torch.manual_seed(0)
    inputs = torch.randn(512, 32)
    targets = inputs.sum(dim=1, keepdim=True)
    model = torch.nn.Sequential(torch.nn.Linear(32, 64), torch.nn.ReLU(), torch.nn.Linear(64, 1))
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    with ergonaut.track(name="torch") as run:
        for epoch in range(60):
            with run.phase("epoch", epoch):
                loss = torch.nn.functional.mse_loss(model(inputs), targets)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                losses.append(float(loss.detach()))
        run.metric("loss", losses[-1])
    assert losses[-1] < losses[0] / 10
    summary = run.summary
    assert summary is not None
    assert summary.metrics["loss"] == losses[-1]
    assert summary.energy_joules > 0
