"""The store in a PostgreSQL schema that many processes share.

One task of each process writes, in groups (`writer`); a few connections read (`links`), one more
for each listener hears (`hearing`). `rows` translates, `groups` packs a group into one call of the
server's function ``write_group`` and unpacks its answer, `schema` opens and refuses, `wrongs` says
what is wrong, and `sql` has one verb a file. Nothing may live here that decides what follows what:
that is `quart_app.domain.jobs`, by way of `quart_app.stores.versions`.
"""
