"""Amends: durable sagas that put things right."""
