"""Chaos: a shop under load while its workers, servers and connections are torn down, and what must be true afterwards.

`faults.py` and `orders.py` are the story, drawn from one seed: what goes wrong when, and what customers do meanwhile.
`injectors/` and `links.py` do it to real processes. `oracles/` judge: by the payment provider's own ledger, by a count
of the stock and by what clients were told, never by the event log.
"""

__all__: list[str] = []
