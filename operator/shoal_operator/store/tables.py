"""The tables, as the newest migration leaves them.

A row is a copy that placement decided on. ``epoch`` is the writer's: rows that an operator could not read when it
started are recognised by their older epoch and removed once the database is back.
"""

from sqlalchemy import BigInteger, Column, Float, Index, Integer, MetaData, Table, Text

metadata = MetaData()

copies = Table(
    "copies",
    metadata,
    Column("uid", Text, primary_key=True),  # of the TrainedModel
    Column("pod_uid", Text, primary_key=True),
    Column("namespace", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("service", Text, nullable=False),
    Column("content", Text, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("updated", Float, nullable=False),  # seconds since 1970
    Index("copies_epoch", "epoch"),
)

epoch = Table(
    "epoch",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),  # always 1
    Column("epoch", BigInteger, nullable=False),
    Column("updated", Float, nullable=False),
)
