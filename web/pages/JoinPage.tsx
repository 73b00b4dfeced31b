import { ConnectError } from "@connectrpc/connect";
import { useEffect, useState } from "react";
import { management } from "../api.ts";
import { Copy } from "../ui/Copy.tsx";

/** What to boot a machine with so that it joins. */
export function JoinPage() {
  const [tunnel, setTunnel] = useState(false);
  const [reply, setReply] = useState<{ kernelArgs: string[]; config: string }>();
  const [error, setError] = useState("");

  useEffect(() => {
    const stop = new AbortController();
    management.getMachineJoinConfig({ useGrpcTunnel: tunnel }, { signal: stop.signal }).then(
      ({ kernelArgs, config }) => {
        setReply({ kernelArgs, config });
        setError("");
      },
      (failure) => stop.signal.aborted || setError(ConnectError.from(failure).rawMessage),
    );
    return () => stop.abort();
  }, [tunnel]);

  return (
    <>
      <header className="head">
        <h1>Join a machine</h1>
        <span className="grow" />
        <label className="toggle">
          <input type="checkbox" checked={tunnel} onChange={(event) => setTunnel(event.target.checked)} /> UDP is
          blocked: carry WireGuard over gRPC
        </label>
      </header>
      {error && (
        <div className="banner" role="alert">
          {error}
        </div>
      )}
      {reply && (
        <div className="grid">
          <section className="card wide">
            <h2>Kernel arguments</h2>
            <p>
              Boot a stock Talos image with these. The machine calls in, appears under Machines, and waits to be put
              into a cluster.
            </p>
            <Copy label="Kernel arguments" text={reply.kernelArgs.join(" ")} />
          </section>
          <section className="card wide">
            <h2>Or a configuration</h2>
            <p>The same as documents, where kernel arguments cannot be given: as user data, or embedded in an image.</p>
            <Copy label="Configuration documents" text={reply.config} />
          </section>
        </div>
      )}
    </>
  );
}
