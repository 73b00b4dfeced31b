import { useRef, useState } from "react";

/** A button that asks before it destroys: the person types the name of what will be gone. */
export function Confirm({
  action,
  name,
  consequence,
  run,
}: {
  action: string;
  name: string;
  consequence: string;
  run: () => Promise<void>;
}) {
  const dialog = useRef<HTMLDialogElement>(null);
  const [typed, setTyped] = useState("");
  const [error, setError] = useState("");
  const go = async () => {
    try {
      await run();
      dialog.current?.close();
    } catch (failure) {
      setError(failure instanceof Error ? failure.message : String(failure));
    }
  };
  return (
    <>
      <button type="button" className="danger" onClick={() => dialog.current?.showModal()}>
        {action}
      </button>
      <dialog ref={dialog} aria-label={action}>
        <form method="dialog" style={{ display: "grid", gap: 14 }}>
          <h1>{action}</h1>
          <p style={{ margin: 0 }}>{consequence}</p>
          <label style={{ display: "grid", gap: 4 }}>
            <span>
              Type <code>{name}</code> to go on
            </span>
            <input type="text" value={typed} onChange={(event) => setTyped(event.target.value)} autoComplete="off" />
          </label>
          {error && <div role="alert">{error}</div>}
          <div style={{ display: "flex", gap: 8, justifyContent: "flex-end" }}>
            <button type="submit">Cancel</button>
            <button type="button" className="danger" disabled={typed !== name} onClick={go}>
              {action}
            </button>
          </div>
        </form>
      </dialog>
    </>
  );
}
