import { Link, useNavigate, useParams } from "@tanstack/react-router";
import type { MachineServicesSpec_Service } from "#gen/ichor/v1/ichor_pb.ts";
import type {
  MachineStatusSpec_HardwareStatus,
  MachineStatusSpec_HardwareStatus_Processor,
} from "#gen/specs/specs_pb.ts";
import { MachineDetailsKind } from "#kinds/machine/machine-details.ts";
import { MachineServicesKind } from "#kinds/machine/machine-services.ts";
import { MachineStatusKind } from "#kinds/machine/machine-status.ts";
import { forgetMachine } from "../parts/destroy.ts";
import { Head } from "../parts/Head.tsx";
import { Logs } from "../parts/Logs.tsx";
import { toneOf, useMachineRows } from "../parts/machine-row.ts";
import { NotFound } from "../parts/NotFound.tsx";
import { paths } from "../paths.ts";
import { Confirm } from "../ui/Confirm.tsx";
import { type Fact, Facts } from "../ui/Facts.tsx";
import { Loading } from "../ui/Loading.tsx";
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
  if (!row) return loading ? <Loading what="machine" /> : <NotFound what="machine" />;

  const forget = async () => {
    await forgetMachine(id);
    await navigate({ to: paths.machines });
  };
  const { hardware, network, securityState, schematic } = status ?? {};
  return (
    <>
      <Head title={row.hostname || id}>
        <span role="status">
          <State tone={toneOf(row)} text={row.state} />
        </span>
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
      </Head>
      {status?.lastError && (
        <div className="banner bad" role="alert">
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
            ["Model", [details?.manufacturer, details?.productName].filter(Boolean).join(" ")],
            ["Serial number", details?.serialNumber],
            ["Talos", status?.talosVersion],
            ["Platform", status?.platformMetadata?.platform],
            ["Extensions", schematic?.extensions.join(", ")],
            ["Schematic", schematic?.fullId && <code title={schematic.fullId}>{schematic.fullId.slice(0, 16)}…</code>],
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
        <Facts title="Hardware" facts={hardware ? hardwareFacts(hardware) : []} />
        <Services services={services} />
        <Logs machine={id} />
      </div>
    </>
  );
}

function Services({ services }: { services: readonly MachineServicesSpec_Service[] }) {
  return (
    <section className="card wide" aria-label="Services">
      <h2>Services</h2>
      {services.length === 0 && <span className="sub">None told yet.</span>}
      <ul className="services">
        {services.map(({ name, running, unknown, healthy }) => (
          <li key={name}>
            {!running && <State tone="idle" text={`${name}, stopped`} />}
            {running && (unknown || healthy) && <State tone="good" text={name} />}
            {running && !unknown && !healthy && <State tone="bad" text={`${name}, unhealthy`} />}
          </li>
        ))}
      </ul>
    </section>
  );
}

function hardwareFacts({ processors, memoryModules, blockdevices }: MachineStatusSpec_HardwareStatus): Fact[] {
  const modules = memoryModules
    .filter(({ sizeMb }) => sizeMb > 0)
    .map(({ sizeMb, description }) => `${sizeMb / 1024} GiB ${description}`);
  return [
    ...processors.map((cpu): Fact => ["Processor", `${withoutMaker(cpu)}, ${cpu.threadCount} threads`]),
    ...counted(modules).map((text): Fact => ["Memory", text]),
    ...blockdevices.map(
      (disk): Fact => [
        disk.linuxName,
        `${disk.model} ${(Number(disk.size) / 1e9).toFixed(0)} GB ${disk.transport || disk.type}${disk.systemDisk ? ", system disk" : ""}`,
      ],
    ),
  ];
}

/** Product names tell their maker again. */
function withoutMaker({ description, manufacturer }: MachineStatusSpec_HardwareStatus_Processor): string {
  return description.startsWith(`${manufacturer} `) ? description.slice(manufacturer.length + 1) : description;
}

/** Equal texts once, with their number before. */
function counted(texts: readonly string[]): string[] {
  const counts = new Map<string, number>();
  for (const text of texts) counts.set(text, (counts.get(text) ?? 0) + 1);
  return [...counts].map(([text, count]) => (count > 1 ? `${count} × ${text}` : text));
}
