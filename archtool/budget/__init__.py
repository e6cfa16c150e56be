"""Budgets: the language they are written in, and how they are met."""
