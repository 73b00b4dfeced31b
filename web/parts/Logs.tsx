import { Code, ConnectError } from "@connectrpc/connect";
import { useEffect, useRef, useState } from "react";
import { inWords, management } from "../api.ts";
import { State } from "../ui/State.tsx";

/** Lines kept in the page; older ones stay in the plane. */
const most = 2000;

interface Line {
  readonly key: number;
  readonly time: string;
  readonly level: string;
  readonly text: string;
}

/** The log of a machine as it comes. Scrolling up holds it; at the end it follows. */
export function Logs({ machine }: { machine: string }) {
  const [lines, setLines] = useState<readonly Line[]>([]);
  const [error, setError] = useState("");
  const [following, setFollowing] = useState(true);
  const box = useRef<HTMLDivElement>(null);

  useEffect(() => {
    const stop = new AbortController();
    void follow(machine, stop.signal, setLines, setError);
    return () => stop.abort();
  }, [machine]);

  // biome-ignore lint/correctness/useExhaustiveDependencies: scrolls when lines came
  useEffect(() => {
    if (following) box.current?.scrollTo({ top: box.current.scrollHeight });
  }, [lines, following]);

  return (
    <section className="card wide" aria-label="Log">
      <div className="head">
        <h2>Log</h2>
        <span role="status">{error ? <State tone="bad" text={error} busy /> : <State tone="good" text="live" />}</span>
        <span className="grow" />
        {!following && (
          <button type="button" onClick={() => setFollowing(true)}>
            To the end
          </button>
        )}
      </div>
      <div
        className="logs"
        ref={box}
        role="log"
        // Machines talk too much to be read aloud as they do.
        aria-live="off"
        aria-label="Machine log"
        // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard
        tabIndex={0}
        onScroll={({ currentTarget: at }) => setFollowing(at.scrollHeight - at.scrollTop - at.clientHeight < 24)}
      >
        {lines.length === 0 && !error && "Nothing yet."}
        {lines.map((line) => (
          <div key={line.key} className={line.level}>
            <span className="time">{line.time}</span> {line.text}
          </div>
        ))}
      </div>
    </section>
  );
}

/** Tells the last lines and those that come, over all breaks of the connection, until the signal aborts. */
async function follow(
  machine: string,
  signal: AbortSignal,
  tell: (lines: readonly Line[]) => void,
  tellError: (error: string) => void,
): Promise<void> {
  let key = 0;
  for (;;) {
    // Each connection begins with the last lines again.
    let lines: readonly Line[] = [];
    let drawing = false;
    const decoder = new TextDecoder();
    try {
      const request = { machineId: machine, follow: true, tailLines: 500 };
      for await (const { bytes } of management.machineLogs(request, { signal })) {
        const texts = decoder.decode(bytes, { stream: true }).split("\n").filter(Boolean);
        lines = [...lines, ...texts.map((text) => parse(text, key++))].slice(-most);
        // Many lines come at once: one drawing takes them all.
        if (drawing) continue;
        drawing = true;
        requestAnimationFrame(() => {
          drawing = false;
          tell(lines);
          tellError("");
        });
      }
      tellError("interrupted");
    } catch (failure) {
      if (signal.aborted) return;
      const { code } = ConnectError.from(failure);
      tellError(inWords(failure));
      if (code === Code.NotFound || code === Code.PermissionDenied || code === Code.Unauthenticated) return;
    }
    if (signal.aborted) return;
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}

/** A line is JSON as Talos sends it; what is not is shown as it is. */
function parse(text: string, key: number): Line {
  try {
    const { msg, "talos-time": time, "talos-level": level } = JSON.parse(text) as Record<string, string>;
    if (typeof msg === "string")
      return {
        key,
        time: (time ?? "").slice(11, 23),
        level: level === "error" ? "err" : level === "warn" || level === "warning" ? "warn" : "",
        text: msg,
      };
  } catch {
    // Not JSON: below.
  }
  return { key, time: "", level: "", text };
}
