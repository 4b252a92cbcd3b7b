// An Express app whose log lines (JSON, one a request) go to Loki and whose metrics go to Narthex.
"use strict";

const crypto = require("crypto");
const express = require("express");
const client = require("prom-client");

const app = express();
client.collectDefaultMetrics({ labels: { app: "express" } });

const duration = new client.Histogram({
  name: "http_request_duration_seconds",
  help: "Time from request to end of answer",
  labelNames: ["method", "route", "status_code"],
  buckets: [0.001, 0.005, 0.015, 0.05, 0.1, 0.3, 0.5, 1, 3, 5],
});
const size = new client.Summary({
  name: "http_response_size_bytes",
  help: "Size of answers",
  labelNames: ["route"],
  percentiles: [0.5, 0.9, 0.99],
  maxAgeSeconds: 600,
  ageBuckets: 5,
});

app.use((req, res, next) => {
  const began = process.hrtime.bigint();
  res.on("close", () => {
    const seconds = Number(process.hrtime.bigint() - began) / 1e9;
    const route = req.route ? req.route.path : "(none)";
    duration.observe({ method: req.method, route, status_code: res.statusCode }, seconds);
    size.observe({ route }, Number(res.getHeader("content-length") || 0));
    console.log(JSON.stringify({
      level: res.statusCode >= 500 ? "error" : "info",
      time: new Date().toISOString(),
      method: req.method, path: req.path, status: res.statusCode, seconds,
    }));
  });
  next();
});

app.get("/", (req, res) => res.send("narthex example: /work?ms=50, /fail, /metrics\n"));
app.get("/work", (req, res) => {
  const ms = Math.min(Number(req.query.ms) || 20, 5000);
  setTimeout(() => res.json({ id: crypto.randomUUID(), ms }), ms);
});
app.get("/fail", (req, res) => res.status(503).json({ error: "as asked" }));
app.get("/metrics", async (req, res) => {
  res.set("Content-Type", client.register.contentType);
  res.end(await client.register.metrics());
});

app.listen(Number(process.env.PORT || 3000), process.env.HOST || "0.0.0.0");
