import { type FormEvent, useRef, useState } from "react";

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
  const [busy, setBusy] = useState(false);
  const open = () => {
    setTyped("");
    setError("");
    dialog.current?.showModal();
  };
  const go = async (event: FormEvent) => {
    event.preventDefault();
    if (typed !== name || busy) return;
    setBusy(true);
    try {
      await run();
      dialog.current?.close();
    } catch (failure) {
      setError(failure instanceof Error ? failure.message : String(failure));
    } finally {
      setBusy(false);
    }
  };
  return (
    <>
      <button type="button" className="danger" onClick={open}>
        {action}
      </button>
      <dialog ref={dialog} aria-label={action}>
        <form onSubmit={go}>
          <strong>{action}</strong>
          <span>{consequence}</span>
          <label>
            <span>
              Type <code>{name}</code> to go on
            </span>
            <input type="text" value={typed} onChange={(event) => setTyped(event.target.value)} autoComplete="off" />
          </label>
          {error && (
            <span role="alert" className="error">
              {error}
            </span>
          )}
          <footer>
            <button type="button" onClick={() => dialog.current?.close()}>
              Cancel
            </button>
            <button type="submit" className="danger" disabled={typed !== name || busy}>
              {action}
            </button>
          </footer>
        </form>
      </dialog>
    </>
  );
}
