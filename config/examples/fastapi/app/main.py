"""A FastAPI service with the metrics most of them have: requests, latency, errors, work in a queue."""

import asyncio
import time

from fastapi import FastAPI, HTTPException, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, Counter, Gauge, Histogram, generate_latest

app = FastAPI(title="narthex example")

REQUESTS = Counter("http_requests", "Requests answered", ["method", "handler", "status"])
LATENCY = Histogram("http_request_duration_seconds", "Time to answer", ["method", "handler"],
                    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0))
IN_PROGRESS = Gauge("http_requests_in_progress", "Requests being answered")
ITEMS = Gauge("inventory_items", "Items in store", ["item"])

inventory = {}


@app.middleware("http")
async def measure(request: Request, call_next):
    began = time.perf_counter()
    status = 500
    IN_PROGRESS.inc()
    try:
        response = await call_next(request)
        status = response.status_code
        return response
    finally:
        IN_PROGRESS.dec()
        # The route as declared, never the path: one series a route, not one a visitor.
        route = request.scope.get("route")
        handler = route.path if route is not None else "(none)"
        LATENCY.labels(request.method, handler).observe(time.perf_counter() - began)
        REQUESTS.labels(request.method, handler, str(status)).inc()


@app.get("/")
async def index():
    return {"see": ["/items/{name}", "/slow", "/fail", "/metrics"]}


@app.get("/items/{name}")
async def get_item(name: str):
    if name not in inventory:
        raise HTTPException(status_code=404, detail="no such item")
    return {"name": name, "count": inventory[name]}


@app.put("/items/{name}")
async def put_item(name: str, count: int = 1):
    inventory[name] = inventory.get(name, 0) + count
    ITEMS.labels(name).set(inventory[name])
    return {"name": name, "count": inventory[name]}


@app.get("/slow")
async def slow(seconds: float = 0.2):
    await asyncio.sleep(min(seconds, 5.0))
    return {"slept": seconds}


@app.get("/fail")
async def fail():
    raise HTTPException(status_code=500, detail="as asked")


@app.get("/metrics")
async def metrics():
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
