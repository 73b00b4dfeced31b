import { Link, useNavigate, useParams } from "@tanstack/react-router";
import type { ReactNode } from "react";
import { LinkKind } from "#kinds/machine/link.ts";
import { MachineDetailsKind } from "#kinds/machine/machine-details.ts";
import { MachineServicesKind } from "#kinds/machine/machine-services.ts";
import { MachineStatusKind } from "#kinds/machine/machine-status.ts";
import { state } from "../api.ts";
import { Logs } from "../parts/Logs.tsx";
import { toneOf, useMachineRows } from "../parts/machine-row.ts";
import { NotFound } from "../parts/NotFound.tsx";
import { paths } from "../paths.ts";
import { Confirm } from "../ui/Confirm.tsx";
import { State } from "../ui/State.tsx";
import { useWatch } from "../watch.ts";

/** One machine: what it is, how it stands, what it says. */
export function MachinePage() {
  const { id } = useParams({ from: "/frame/machines/$id" });
  const { rows, loading } = useMachineRows();
  const status = useWatch(MachineStatusKind).items.get(id)?.spec;
  const details = useWatch(MachineDetailsKind).items.get(id)?.spec;
  const services = useWatch(MachineServicesKind).items.get(id)?.spec.services ?? [];
  const navigate = useNavigate();
  const row = rows.get(id);
  if (!row) return loading ? <div className="empty">Loading…</div> : <NotFound what="machine" />;

  const forget = async () => {
    await state.teardown({ ...LinkKind.key(id) });
    await navigate({ to: paths.machines });
  };
  const { hardware, network, securityState, schematic } = status ?? {};
  return (
    <>
      <header className="head">
        <h1>{row.hostname || id}</h1>
        <State tone={toneOf(row)} text={row.connected ? row.stage || "connected" : "disconnected"} />
        {row.cluster && (
          <Link to={paths.cluster(row.cluster)} className="chip">
            {row.cluster}
          </Link>
        )}
        <span className="grow" />
        <Confirm
          action="Forget machine"
          name={row.hostname || id}
          run={forget}
          consequence="The plane removes it, connected or not. It can join again only with a valid join token."
        />
      </header>
      {status?.lastError && (
        <div className="banner" role="alert">
          {status.lastError}
        </div>
      )}
      {details?.unmetConditions.length ? (
        <div className="banner" role="status">
          Not ready: {details.unmetConditions.join("; ")}
        </div>
      ) : null}
      <div className="grid">
        <Facts
          title="Machine"
          facts={[
            ["Id", <code key="id">{id}</code>],
            ["Hardware", [details?.manufacturer, details?.productName].filter(Boolean).join(" ")],
            ["Serial number", details?.serialNumber],
            ["Talos", status?.talosVersion],
            ["Platform", status?.platformMetadata?.platform],
            ["Extensions", schematic?.extensions.join(", ")],
            ["Schematic", schematic?.fullId && <code>{schematic.fullId.slice(0, 16)}…</code>],
            ["Secure Boot", securityState ? (securityState.secureBoot ? "on" : "off") : undefined],
            ["Time", details ? (details.timeSynced ? "in sync" : "not in sync") : undefined],
          ]}
        />
        <Facts
          title="Network"
          facts={[
            ["Link address", <code key="address">{row.address}</code>],
            ["Addresses", network?.addresses.join(", ")],
            ["Gateways", network?.defaultGateways.join(", ")],
            ["DNS", details?.dnsServers.join(", ")],
            ["Time servers", details?.timeServers.join(", ")],
            ...(network?.networkLinks ?? []).map(
              (link): Fact => [
                link.linuxName,
                `${link.hardwareAddress}, ${link.linkUp ? "up" : "down"}${link.speedMbps > 0 && link.speedMbps < 4_000_000 ? `, ${link.speedMbps} Mbit/s` : ""}`,
              ],
            ),
          ]}
        />
        <Facts
          title="Hardware"
          facts={[
            ...(hardware?.processors ?? []).map(
              (cpu): Fact => [
                "Processor",
                `${cpu.manufacturer} ${cpu.description}, ${cpu.coreCount} cores, ${cpu.threadCount} threads`,
              ],
            ),
            ...(hardware?.memoryModules ?? [])
              .filter((module) => module.sizeMb > 0)
              .map((module): Fact => ["Memory", `${module.sizeMb / 1024} GiB ${module.description}`]),
            ...(hardware?.blockdevices ?? []).map(
              (disk): Fact => [
                disk.linuxName,
                `${disk.model} ${(Number(disk.size) / 1e9).toFixed(0)} GB ${disk.transport || disk.type}${disk.systemDisk ? ", system disk" : ""}`,
              ],
            ),
          ]}
        />
        <section className="card">
          <h2>Services</h2>
          {services.length === 0 && <span className="sub">None told yet.</span>}
          <div style={{ display: "grid", gap: 4 }}>
            {services.map((service) => (
              <State
                key={service.name}
                tone={!service.running ? "idle" : service.unknown || service.healthy ? "good" : "bad"}
                text={`${service.name}${service.running ? "" : " (stopped)"}${service.running && !service.unknown && !service.healthy ? " (unhealthy)" : ""}`}
              />
            ))}
          </div>
        </section>
        <Logs machine={id} />
      </div>
    </>
  );
}

type Fact = [name: string, value: ReactNode];

function Facts({ title, facts }: { title: string; facts: Fact[] }) {
  const known = facts.filter(([, value]) => value !== undefined && value !== "" && value !== null);
  return (
    <section className="card">
      <h2>{title}</h2>
      {known.length === 0 && <span className="sub">Nothing told yet.</span>}
      <dl className="facts">
        {known.map(([name, value], index) => (
          // biome-ignore lint/suspicious/noArrayIndexKey: facts of one name repeat, and their order is fixed
          <div key={index} style={{ display: "contents" }}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
    </section>
  );
}
