"""The store in a Redis or Valkey server: `store` has the verbs, `lua` what the server does.

Only this text may live here: what needs the package ``redis`` is imported by whoever uses it.
"""
