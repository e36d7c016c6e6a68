# Types for the parts of asyncpg 0.32 that this project uses; asyncpg itself leaves them open.
# ruff: noqa: F403  the names and forms are asyncpg's

from asyncpg import pool as pool
from asyncpg.connection import Connection as Connection
from asyncpg.connection import connect as connect
from asyncpg.exceptions import *
from asyncpg.pool import Pool as Pool
from asyncpg.pool import create_pool as create_pool
from asyncpg.protocol import Record as Record
