/**
 * Arrow keys move among the rows of a list: mark each row's link with `data-row`. Down in the search goes to the first row, up on the first
 * row comes back. True when the key was for this.
 */
export function moveAmongRows(event: KeyboardEvent): boolean {
  const by = event.key === "ArrowDown" ? 1 : event.key === "ArrowUp" ? -1 : 0;
  const from = event.target;
  if (by === 0 || !(from instanceof HTMLElement) || !from.matches('[data-row], input[type="search"]')) return false;
  const links = [...document.querySelectorAll<HTMLElement>("[data-row]")];
  const at = links.indexOf(from);
  const next = at === 0 && by < 0 ? document.querySelector<HTMLElement>('input[type="search"]') : links[at + by];
  next?.focus();
  event.preventDefault();
  return true;
}
