/** The decode view. */

export function DecodeView() {
  return <section />;
}
