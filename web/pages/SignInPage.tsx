import { ConnectError } from "@connectrpc/connect";
import { useEffect, useRef, useState } from "react";
import { session } from "../api.ts";
import { paths } from "../paths.ts";
import { Copy } from "../ui/Copy.tsx";

/** Exchanges the code of a sign-in link for a session; without one, says where a link comes from. */
export function SignInPage() {
  const query = new URLSearchParams(location.search);
  const code = query.get("code") ?? "";
  const [error, setError] = useState("");
  // A code works once: React's second mount in development must not spend it again.
  const asked = useRef(false);

  useEffect(() => {
    if (!code || asked.current) return;
    asked.current = true;
    session.signIn({ code }).then(
      () => location.replace(safe(query.get("next"))),
      (failure) => setError(ConnectError.from(failure).rawMessage),
    );
  });

  return (
    <main className="signin">
      <div className="card">
        <div className="brand" style={{ padding: 0 }}>
          <img src="/icon.svg" alt="" /> Ichor
        </div>
        {code && !error ? (
          <p role="status">Signing in…</p>
        ) : (
          <>
            <h1>Sign in</h1>
            {error && <div role="alert">{error}</div>}
            <p style={{ margin: 0 }}>
              Ask for a sign-in link on the machine that the plane runs on. It works once, for an hour.
            </p>
            <Copy label="Command" text="./ichor signin" />
          </>
        )}
      </div>
    </main>
  );
}

/** Only paths of our own: a link must not lead elsewhere after sign-in. */
function safe(next: string | null): string {
  return next?.startsWith("/") && !next.startsWith("//") && !next.includes("\\") ? next : paths.machines;
}
