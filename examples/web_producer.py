"""A web service that writes orders to a topic, and answers once they are safe.

uvicorn web_producer:app            (pip install fastapi uvicorn)
curl -d '{"item": "tea", "count": 2}' -H 'Content-Type: application/json' http://127.0.0.1:8000/customers/ann/orders
"""

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import lograft
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

BROKERS = os.environ.get("LOGRAFT_BROKERS", "127.0.0.1:9600")


class Order(BaseModel):
    item: str
    count: int = 1


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    # One client and one producer for the whole process: requests that come together travel together.
    async with lograft.Client(BROKERS) as client, client.producer(linger_ms=1) as producer:
        app.state.producer = producer
        yield  # leaving sends what is still under way


app = FastAPI(lifespan=lifespan)


@app.post("/customers/{customer}/orders", status_code=201)
async def take_order(customer: str, order: Order) -> dict[str, object]:
    value = json.dumps(order.model_dump()).encode()
    try:
        # The key keeps one customer's orders in one partition, and so in order.
        sent = await app.state.producer.send_and_wait("orders", value, key=customer.encode())
    except lograft.LograftError as error:
        # The outcome may be unknown; the client sends again, and a later stage tells orders apart by their id.
        raise HTTPException(503, str(error)) from error
    return {"partition": sent.partition, "offset": sent.offset, "safe": str(sent.durability)}
