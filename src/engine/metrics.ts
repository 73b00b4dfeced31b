import { Counter, Gauge, Histogram, type Registry } from "prom-client";
import type { ControllerState } from "./runner.ts";

/** Registers what Prometheus is told of controllers; answers what to call after each reconcile. */
export function makeMetrics(
  registry: Registry,
  status: () => readonly ControllerState[],
): (controller: string, failed: boolean, seconds: number) => void {
  const registers = [registry];
  const labelNames = ["controller"];
  const counter = (name: string, help: string) => new Counter({ name, help, labelNames, registers });
  const reconciles = counter("ichor_controller_reconciles_total", "Reconciles by controller");
  const failures = counter("ichor_controller_failures_total", "Failed reconciles by controller");
  new Gauge({
    name: "ichor_controller_queue_length",
    help: "Keys waiting by controller",
    labelNames,
    registers,
    collect() {
      for (const { name, queued } of status()) this.set({ controller: name }, queued);
    },
  });
  const times = new Histogram({
    name: "ichor_controller_reconcile_seconds",
    help: "Time of a reconcile",
    labelNames,
    registers,
    buckets: [0.001, 0.01, 0.1, 1, 10, 60],
  });
  return (controller, failed, seconds) => {
    reconciles.inc({ controller });
    if (failed) failures.inc({ controller });
    times.observe({ controller }, seconds);
  };
}
