"""The basis that Lanczos builds, on operators for which one pass of reorthogonalisation is not enough."""

import pytest
import torch

from optim.curvature import lanczos

SPECTRA = {
    "falling by tens": 10.0 ** -torch.arange(20, dtype=torch.float64),
    "outliers": torch.cat([torch.tensor([1e6, -1e5, 3e3]), torch.linspace(-1, 1, 57)]).double(),
    "nearly of rank 4": torch.cat([torch.tensor([5.0, 3.0, 2.0, -1.0]), torch.linspace(0, 1e-7, 40)]).double(),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", SPECTRA)
def test_the_basis_stays_orthonormal(name, dtype):
    values, asked = SPECTRA[name].to(dtype), []

    def product(vector):
        asked.append(vector.double())
        return values * vector

    found = lanczos(product, torch.zeros_like(values), tolerance=1e-12, max_products=len(values))
    basis = torch.stack(asked)
    apart = (basis @ basis.T - torch.eye(len(basis), dtype=torch.float64)).abs().max()
    assert float(apart) < 10 * torch.finfo(dtype).eps  # 0.3 and 1e-5 at worst with one pass
    assert found.largest[0] == pytest.approx(float(values.max()), rel=10 * torch.finfo(dtype).eps)
