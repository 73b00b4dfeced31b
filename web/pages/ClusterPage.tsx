import { timestampDate } from "@bufbuild/protobuf/wkt";
import { useNavigate, useParams, useRouter } from "@tanstack/react-router";
import { useState } from "react";
import { ClusterProgressSpec_State, type ClusterProgressSpec_Step } from "#gen/ichor/v1/ichor_pb.ts";
import { ClusterKind } from "#kinds/cluster/cluster.ts";
import { ClusterProgressKind } from "#kinds/cluster/cluster-progress.ts";
import { ClusterStatusKind } from "#kinds/cluster/cluster-status.ts";
import { destroyCluster } from "../parts/destroy.ts";
import { Head } from "../parts/Head.tsx";
import { NotFound } from "../parts/NotFound.tsx";
import { phaseOf } from "../parts/phase.ts";
import { Topology, useNodes } from "../parts/Topology.tsx";
import { paths } from "../paths.ts";
import { Ago } from "../ui/Ago.tsx";
import { Confirm } from "../ui/Confirm.tsx";
import { Copy } from "../ui/Copy.tsx";
import { Loading } from "../ui/Loading.tsx";
import { State } from "../ui/State.tsx";
import { useWatch } from "../watch.ts";

/** One cluster: what it waits for, who is in it, how to reach it. */
export function ClusterPage() {
  const { name } = useParams({ from: "/frame/clusters/$name" });
  const clusters = useWatch(ClusterKind);
  const status = useWatch(ClusterStatusKind).items.get(name)?.spec;
  const progress = useWatch(ClusterProgressKind).items.get(name)?.spec;
  const machines = useNodes(name).length;
  const [failure, setFailure] = useState("");
  const navigate = useNavigate();
  const router = useRouter();
  const cluster = clusters.items.get(name);
  if (!cluster)
    return clusters.status === "loading" ? (
      <Loading what="cluster" />
    ) : (
      <NotFound what="cluster" list={paths.clusters} />
    );

  // Resetting machines takes its time: the page shows it going, and the person may look elsewhere meanwhile.
  const destroy = async () => {
    setFailure("");
    void destroyCluster(name).then(
      () => {
        if (router.state.location.pathname === paths.cluster(name)) void navigate({ to: paths.clusters });
      },
      (error: Error) => setFailure(error.message),
    );
  };
  const error = failure || progress?.lastError;
  return (
    <>
      <Head title={name}>
        <span role="status">
          <State {...phaseOf(status)} />
        </span>
        <span className="sub">
          {status?.machines?.healthy ?? 0}/{status?.machines?.total ?? 0} machines ready, Talos{" "}
          {cluster.spec.talosVersion}, Kubernetes {cluster.spec.kubernetesVersion}
        </span>
        <span className="grow" />
        <Confirm
          action="Destroy cluster"
          name={name}
          run={destroy}
          consequence={`Its machines (${machines}) are reset and available again, and their data is lost. Keep the console open until it is gone.`}
        />
      </Head>
      {error && (
        <div className="banner bad" role="alert">
          {error}
        </div>
      )}
      <div className="grid">
        <section className="card wide" aria-label="Progress">
          <h2>Progress</h2>
          <ol className="steps">
            {(progress?.steps ?? []).map((step) => (
              <Step key={step.id} step={step} />
            ))}
          </ol>
          {!progress && <span className="sub">Nothing told yet.</span>}
        </section>
        <Topology cluster={name} />
        <section className="card wide" aria-label="Reach it">
          <h2>Reach it</h2>
          <Copy
            label="Commands"
            text={`./ichor kubeconfig --cluster ${name} --output ${name}.kubeconfig\nkubectl --kubeconfig ${name}.kubeconfig get nodes`}
          />
        </section>
      </div>
    </>
  );
}

function Step({ step }: { step: ClusterProgressSpec_Step }) {
  const tones = {
    [ClusterProgressSpec_State.DONE]: "good",
    [ClusterProgressSpec_State.FAILED]: "bad",
    [ClusterProgressSpec_State.RUNNING]: "warn",
  } as const;
  const words = ["waiting", "working", "done", "failed"];
  const tone = tones[step.state as keyof typeof tones] ?? "idle";
  const done = step.state === ClusterProgressSpec_State.DONE;
  return (
    <li>
      <State tone={tone} text="" busy={tone === "warn"} />
      <span>
        {step.title} <span className="sub">{words[step.state]}</span>
      </span>
      <span className="count">{step.total > 0 ? `${step.done}/${step.total}` : ""}</span>
      <span className={step.error ? "why error" : "why"}>{step.error || (done ? "" : step.detail)}</span>
      <span className="since">{step.since && <Ago at={timestampDate(step.since).getTime()} />}</span>
    </li>
  );
}
