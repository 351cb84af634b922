"""Connects to Temporal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from temporalio.client import Client
from temporalio.envconfig import ClientConfig
from temporalio.service import RPCError

from amends.encryption import converter
from amends.errors import ServerFailed, StartupError
from amends.outages import first_line

if TYPE_CHECKING:
    from amends.settings import Settings

__all__ = ["connect"]


async def connect(settings: Settings) -> Client:
    """Connect to the Temporal server.

    Args:
        settings: address, namespace, payload keys; TLS and API key come from Temporal's own environment configuration.

    Raises:
        ServerFailed: nobody answers there.
        StartupError: the payload keys, or Temporal's own configuration, can't be read.
    """
    try:
        config = ClientConfig.load_client_connect_config()
    except (RuntimeError, ValueError, OSError) as error:
        raise StartupError(
            f"Temporal's own environment (TEMPORAL_TLS_…, TEMPORAL_API_KEY, TEMPORAL_CONFIG_FILE) can't be read: "
            f"{first_line(error)}"
        ) from error
    config["namespace"] = settings.temporal_namespace
    if settings.temporal_address is not None:
        config["target_host"] = settings.temporal_address
    address = config.get("target_host") or "localhost:7233"
    config["target_host"] = address
    try:
        return await Client.connect(**config, data_converter=converter(settings))
    except (RuntimeError, RPCError) as error:
        raise ServerFailed(
            f"No Temporal server answers at {address} ({first_line(error)}). Start one by `amends up`, or "
            "set AMENDS_TEMPORAL_ADDRESS; where it wants TLS or an API key, TEMPORAL_TLS_… and TEMPORAL_API_KEY say so"
        ) from error
