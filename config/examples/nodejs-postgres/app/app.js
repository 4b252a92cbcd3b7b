// A small shop: orders over HTTP, kept in Postgres, with the metrics most Express apps have.
// Without DATABASE_URL the orders are kept in memory.
"use strict";

const express = require("express");
const client = require("prom-client");

const app = express();
app.use(express.json());

client.collectDefaultMetrics();

const requests = new client.Counter({
  name: "http_requests_total",
  help: "Requests answered",
  labelNames: ["method", "route", "status_code"],
});
const duration = new client.Histogram({
  name: "http_request_duration_seconds",
  help: "Time from request to end of answer",
  labelNames: ["method", "route", "status_code"],
  buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5],
});
const inFlight = new client.Gauge({ name: "http_requests_in_flight", help: "Requests being answered" });
const ordersTotal = new client.Counter({ name: "shop_orders_total", help: "Orders taken", labelNames: ["item"] });

app.use((req, res, next) => {
  const end = duration.startTimer();
  inFlight.inc();
  res.on("close", () => {
    // The route as declared, never the path: one series a route, not one a visitor.
    const labels = { method: req.method, route: req.route ? req.route.path : "(none)", status_code: res.statusCode };
    end(labels);
    requests.inc(labels);
    inFlight.dec();
  });
  next();
});

function memoryStore() {
  const orders = [];
  return {
    async add(item) {
      orders.push({ id: orders.length + 1, item });
      return orders[orders.length - 1];
    },
    async list() {
      return orders.slice(-100);
    },
  };
}

function postgresStore(url) {
  const { Pool } = require("pg");
  const pool = new Pool({ connectionString: url, max: 5 });
  const ready = pool.query("CREATE TABLE IF NOT EXISTS orders (id serial PRIMARY KEY, item text NOT NULL)");
  return {
    async add(item) {
      await ready;
      return (await pool.query("INSERT INTO orders (item) VALUES ($1) RETURNING id, item", [item])).rows[0];
    },
    async list() {
      await ready;
      return (await pool.query("SELECT id, item FROM orders ORDER BY id DESC LIMIT 100")).rows;
    },
  };
}

const store = process.env.DATABASE_URL ? postgresStore(process.env.DATABASE_URL) : memoryStore();

app.get("/", (req, res) => res.send("narthex example: /orders, /orders/fail, /metrics\n"));
app.get("/orders", async (req, res) => res.json(await store.list()));
app.post("/orders", async (req, res) => {
  const item = String((req.body && req.body.item) || "fennel");
  const order = await store.add(item);
  ordersTotal.inc({ item });
  res.status(201).json(order);
});
app.get("/orders/fail", (req, res) => res.status(500).json({ error: "as asked" }));
app.get("/metrics", async (req, res) => {
  res.set("Content-Type", client.register.contentType);
  res.end(await client.register.metrics());
});

app.listen(Number(process.env.PORT || 3000), process.env.HOST || "0.0.0.0");
