import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { inWords, management } from "../api.ts";
import { Head } from "../parts/Head.tsx";
import { Copy } from "../ui/Copy.tsx";
import { Loading } from "../ui/Loading.tsx";

/** What to boot a machine with so that it joins. */
export function JoinPage() {
  const [tunnel, setTunnel] = useState(false);
  const { data, error, refetch } = useQuery({
    queryKey: ["join", tunnel],
    queryFn: ({ signal }) => management.getMachineJoinConfig({ useGrpcTunnel: tunnel }, { signal }),
    placeholderData: keepPreviousData,
  });

  return (
    <>
      <Head title="Join a machine">
        <span className="grow" />
        <label className="toggle">
          <input type="checkbox" checked={tunnel} onChange={(event) => setTunnel(event.target.checked)} /> UDP is
          blocked: carry WireGuard over gRPC
        </label>
      </Head>
      {error && (
        <div className="banner bad" role="alert">
          {inWords(error)}.{" "}
          <button type="button" onClick={() => refetch()}>
            Try again
          </button>
        </div>
      )}
      {!data && !error && <Loading what="arguments" />}
      {data && (
        <div className="grid">
          <section className="card wide">
            <h2>Kernel arguments</h2>
            <p>
              Boot a stock Talos image with these. The machine calls in, appears under Machines, and waits to be put
              into a cluster. They hold a join token: whoever has it can add machines.
            </p>
            <Copy label="Kernel arguments" text={data.kernelArgs.join(" ")} />
          </section>
          <section className="card wide">
            <h2>Or a configuration</h2>
            <p>The same as documents, where kernel arguments cannot be given: as user data, or embedded in an image.</p>
            <Copy label="Configuration documents" text={data.config} />
          </section>
        </div>
      )}
    </>
  );
}
