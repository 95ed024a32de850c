"""Where jobs are KEPT: each module is one `quart_app.core.ports.Store`.

May import `domain` and `core.ports`. No policy may live here: a store keeps, orders and fences.
"""
