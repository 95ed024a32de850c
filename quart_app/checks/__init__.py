"""The conformance suites behind `quart_app.testing`: one rule a function, its docstring the rule.

May import `domain` and `core.ports`. No knowledge of any one store or engine may live here.
"""
