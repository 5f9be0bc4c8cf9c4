"""PyTorch: a small network that knows its own scales; ONNX Runtime runs it. `python with_torch.py [MODELS]`"""

import sys

import torch
from cdnow import HORIZON_DAYS, compare, customers

import scoreline


class Network(torch.nn.Module):
    """Features as they are in, dollars out: the scales are part of the model."""

    def __init__(self, mean, deviation):
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(len(mean), 24),
            torch.nn.ReLU(),
            torch.nn.Linear(24, 12),
            torch.nn.ReLU(),
            torch.nn.Linear(12, 1),
        )

    def forward(self, features):
        return torch.nn.functional.softplus(self.layers((features - self.mean) / self.deviation)) * 10.0


torch.manual_seed(42)
X, y, X_cal, y_cal = customers()
X, X_cal = X.fillna(0.0), X_cal.fillna(0.0)
features, spend = torch.tensor(X.to_numpy(), dtype=torch.float32), torch.tensor(y, dtype=torch.float32).reshape(-1, 1)
model = Network(features.mean(0), features.std(0))
optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
for _ in range(400):
    optimizer.zero_grad()
    predicted = model(features)
    # The deviance of Poisson, whose minimum is the mean.
    (predicted - spend * torch.log(predicted + 1e-6)).mean().backward()
    optimizer.step()
model.eval()
models = sys.argv[1] if len(sys.argv) > 1 else "models"
bundle = scoreline.pack(
    model, X_cal, y_cal, X_train=X, y_train=y, name="clv-torch", version="v1", horizon_days=HORIZON_DAYS, out=models
)
print(bundle.report)
with torch.no_grad():
    says = model(torch.tensor(X_cal.to_numpy(), dtype=torch.float32)).numpy().reshape(-1).astype(float)
compare(bundle, says, X_cal)
