/** The play view. */

export function PlayView() {
  return <section />;
}
