"""The read models that there are: what workers keep, and clients ask."""

from __future__ import annotations

from amends.derived_views import DerivedView
from amends.projection import Projection
from read_models.customer_orders import customer_orders
from read_models.customer_profile import customer_profile, customer_search
from read_models.customers import customers
from read_models.daily_registrations import registrations
from read_models.daily_revenue import daily_revenue
from read_models.inventory_levels import inventory
from read_models.inventory_movements import movements
from read_models.inventory_report import inventory_report
from read_models.order_history import history
from read_models.payments_ledger import ledger, payments
from read_models.product_catalog import catalog
from read_models.sales import sales
from read_models.sales_by_product import sales_by_product

__all__ = ["PROJECTIONS", "VIEWS"]

PROJECTIONS: tuple[Projection, ...] = (
    history,
    inventory,
    movements,
    catalog,
    customers,
    registrations,
    sales,
    payments,
)
"""One for each read model, or for several that are kept together."""

VIEWS: tuple[DerivedView, ...] = (
    customer_orders,
    customer_profile,
    customer_search,
    inventory_report,
    daily_revenue,
    sales_by_product,
    ledger,
)
"""Views built upon those that projections keep, each after what it stands on."""
