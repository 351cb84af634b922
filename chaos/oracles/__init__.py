"""What must be true afterwards; each oracle is a pure function from books to broken promises, in words."""

from chaos.oracles.leases import check_leases
from chaos.oracles.money import check_money
from chaos.oracles.orders import check_orders
from chaos.oracles.sagas import check_runs, check_sagas
from chaos.oracles.stock import check_stock
from chaos.oracles.views import check_views

__all__ = ["check_leases", "check_money", "check_orders", "check_runs", "check_sagas", "check_stock", "check_views"]
