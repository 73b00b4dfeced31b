import { useMemo } from "react";
import { label } from "#kinds/labels.ts";
import { MachineKind } from "#kinds/machine/machine.ts";
import { MachineDetailsKind } from "#kinds/machine/machine-details.ts";
import { MachineStatusKind } from "#kinds/machine/machine-status.ts";
import { useWatch } from "../watch.ts";

/** A machine as lists show it. */
export interface MachineRow {
  readonly id: string;
  readonly connected: boolean;
  /** What it does, in a word. */
  readonly state: string;
  readonly hostname: string;
  readonly cluster: string;
  readonly stage: string;
  readonly talos: string;
  readonly hardware: string;
  readonly address: string;
  readonly joined: number;
}

/** All machines, live, by id. */
export function useMachineRows(): { rows: ReadonlyMap<string, MachineRow>; loading: boolean } {
  const machines = useWatch(MachineKind);
  const statuses = useWatch(MachineStatusKind).items;
  const details = useWatch(MachineDetailsKind).items;
  const rows = useMemo(() => {
    const rows = new Map<string, MachineRow>();
    for (const [id, { metadata, spec }] of machines.items) {
      const status = statuses.get(id);
      const labels = status?.metadata.labels ?? {};
      const stage = details.get(id)?.spec.stage || (status?.spec.maintenance ? "maintenance" : "");
      rows.set(id, {
        id,
        connected: spec.connected,
        state: spec.connected ? stage || "connected" : "disconnected",
        hostname: status?.spec.network?.hostname ?? "",
        cluster: status?.spec.cluster ?? "",
        stage,
        talos: status?.spec.talosVersion ?? "",
        hardware: [labels[label.cores] && `${labels[label.cores]} cores`, labels[label.mem], labels[label.storage]]
          .filter(Boolean)
          .join(", "),
        address: spec.managementAddress,
        joined: metadata.created,
      });
    }
    return rows;
  }, [machines.items, statuses, details]);
  return { rows, loading: machines.status === "loading" };
}

/** The colour of a machine's state. */
export function toneOf(row: Pick<MachineRow, "connected" | "stage">): "good" | "warn" | "bad" | "idle" {
  if (!row.connected) return "bad";
  if (row.stage === "running") return "good";
  return row.stage === "maintenance" ? "idle" : "warn";
}
