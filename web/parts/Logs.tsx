import { ConnectError } from "@connectrpc/connect";
import { useEffect, useRef, useState } from "react";
import { management } from "../api.ts";

/** Lines kept in the page; older ones stay in the plane. */
const most = 2000;

interface Line {
  readonly key: number;
  readonly time: string;
  readonly level: string;
  readonly text: string;
}

/** The log of a machine as it comes. Scrolling up holds it; the end follows. */
export function Logs({ machine }: { machine: string }) {
  const [lines, setLines] = useState<Line[]>([]);
  const [error, setError] = useState("");
  const box = useRef<HTMLElement>(null);
  const follow = useRef(true);

  useEffect(() => {
    const stop = new AbortController();
    setLines([]);
    setError("");
    void (async () => {
      let waiting: Line[] = [];
      let drawing = false;
      let key = 0;
      const decoder = new TextDecoder();
      try {
        for await (const { bytes } of management.machineLogs(
          { machineId: machine, follow: true, tailLines: 500 },
          { signal: stop.signal },
        )) {
          for (const text of decoder.decode(bytes, { stream: true }).split("\n"))
            if (text) waiting.push(parse(text, key++));
          // Many lines come at once: one drawing takes them all.
          if (drawing) continue;
          drawing = true;
          requestAnimationFrame(() => {
            drawing = false;
            const fresh = waiting;
            waiting = [];
            setLines((before) => [...before, ...fresh].slice(-most));
          });
        }
      } catch (failure) {
        if (!stop.signal.aborted) setError(ConnectError.from(failure).rawMessage);
      }
    })();
    return () => stop.abort();
  }, [machine]);

  // biome-ignore lint/correctness/useExhaustiveDependencies: scrolls when lines came
  useEffect(() => {
    if (follow.current && box.current) box.current.scrollTop = box.current.scrollHeight;
  }, [lines]);

  return (
    <section className="card wide">
      <h2>Log</h2>
      {error && <div role="alert">{error}</div>}
      <section
        className="logs"
        ref={box}
        // biome-ignore lint/a11y/noNoninteractiveTabindex: a scrolling region must be reachable by keyboard
        tabIndex={0}
        aria-label="Machine log"
        onScroll={({ currentTarget: at }) => {
          follow.current = at.scrollHeight - at.scrollTop - at.clientHeight < 24;
        }}
      >
        {lines.length === 0 && !error && "Nothing yet."}
        {lines.map((line) => (
          <div key={line.key} className={line.level}>
            <span className="time">{line.time}</span> {line.text}
          </div>
        ))}
      </section>
    </section>
  );
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
