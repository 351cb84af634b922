"""Amounts of money as integer minor units in an ISO 4217 currency."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from amends.errors import InvalidInput
from amends.values import Value

__all__ = ["EXPONENTS", "MAX_AMOUNT", "Currency", "Money"]

MAX_AMOUNT = 10**15
"""Largest amount either way, in minor units: exact in JSON numbers, and far from bigint's end when summed."""

_NO_MINOR_UNITS = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"
_THREE_DIGITS = "BHD IQD JOD KWD LYD OMR TND"
_TWO_DIGITS = """
AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CNY COP CRC
CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD
KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO
NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL
THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VES WST XCD YER ZAR ZMW ZWG
"""
EXPONENTS = {
    **dict.fromkeys(_NO_MINOR_UNITS.split(), 0),
    **dict.fromkeys(_TWO_DIGITS.split(), 2),
    **dict.fromkeys(_THREE_DIGITS.split(), 3),
}
"""ISO 4217 codes in use, each with how many digits its minor units are."""


def _known(code: str) -> str:
    if code not in EXPONENTS:
        raise ValueError(f"{code[:10]!r} is no ISO 4217 currency in use")
    return code


Currency = Annotated[str, AfterValidator(_known)]
"""A three-letter ISO 4217 code, in capitals."""


class Money(Value):
    """An amount in one currency; sums never mix currencies and never round.

    Args:
        amount: minor units (cents for EUR, yen for JPY); negative where something is owed.
        currency: ISO 4217 code.
    """

    amount: int = Field(strict=True, ge=-MAX_AMOUNT, le=MAX_AMOUNT)
    currency: Currency

    def __add__(self, other: Money) -> Money:
        return Money(amount=self.amount + self._same(other).amount, currency=self.currency)

    def __sub__(self, other: Money) -> Money:
        return Money(amount=self.amount - self._same(other).amount, currency=self.currency)

    def __mul__(self, times: int) -> Money:
        return Money(amount=self.amount * times, currency=self.currency)

    def __str__(self) -> str:
        exponent = EXPONENTS[self.currency]
        sign = "-" if self.amount < 0 else ""
        whole, minor = divmod(abs(self.amount), 10**exponent)
        return f"{sign}{whole:,}" + (f".{minor:0{exponent}d}" if exponent else "") + f" {self.currency}"

    def _same(self, other: Money) -> Money:
        if other.currency != self.currency:
            raise InvalidInput({"currency": f"{self.currency} and {other.currency} can't be added"})
        return other
