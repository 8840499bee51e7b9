// What a report of an attack says, in words.

const number = (value) => value.toLocaleString("en");
const plural = (count, noun) => `${number(count)} ${noun}${count === 1 ? "" : "s"}`;

export function bytes(count) {
  if (count < 1024) return `${count} B`;
  if (count < 1024 * 1024) return `${(count / 1024).toFixed(count < 10240 ? 1 : 0)} KiB`;
  return `${(count / 1024 / 1024).toFixed(1)} MiB`;
}

const duration = (ms) => (ms < 1000 ? `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);

/** Whether the server refused the attack, wholly or in part. */
export const isRefused = ({ status, close, dropped }) => Boolean(status || close || dropped);

/** The shortest word for it. */
export function mark(report) {
  if (report.status) return String(report.status);
  if (report.close) return String(report.close.code);
  return report.dropped ? "dropped" : "let in";
}

export function headline(report) {
  const { connections, upgraded, status, close, dropped, held } = report;
  if (connections > 1) return ofMany(report);
  if (close) return `Closed: ${close.code}${close.reason ? ` ${close.reason}` : ""}`;
  if (status) return `Refused before the upgrade: HTTP ${status}`;
  if (dropped) return upgraded ? "Dropped" : "Dropped before the upgrade";
  return held ? letIn(report) : "No answer in time";
}

function ofMany({ connections, upgraded, status, held, dropped, ms }) {
  if (status && upgraded) return `${upgraded} let in, ${connections - upgraded} refused: HTTP ${status}`;
  if (status) return `All ${connections - held} ended: HTTP ${status}`;
  if (dropped) return `${dropped} of ${connections} dropped`;
  return upgraded ? `All ${upgraded} let in` : `All ${held} still held after ${duration(ms)}`;
}

/** The server has worked on everything, and the connection is still open. */
function letIn({ pongs, delivered, reached, unparsed, heard, sent }) {
  if (heard !== undefined) return `Let in: the page read ${plural(heard, "message")} and spoke`;
  if (pongs) return `Let in: ${plural(pongs, "ping")} answered`;
  if (reached === 1 && sent > 1 << 20) return `Let in: ${bytes(sent)} passed on to ${plural(delivered, "other")}`;
  if (reached === 1) return `Let in: passed on to ${plural(delivered, "other")}`;
  if (delivered) return `Let in: ${number(reached)} messages, each to ${plural(Math.round(delivered / reached), "other")}`;
  if (unparsed) return "Let in: its JSON parser gave up";
  return reached ? "Let in: it reached the application" : "Let in";
}

/** The names of what is measured, in the order in which it is shown. */
export const FACTS = [
  "verdict", "answer", "upgraded", "still open", "page read", "reached the app", "passed on", "pongs sent", "attacker sent",
  "memory, peak", "took",
];

function answer({ upgraded, status, close, held }) {
  if (!upgraded) return status ? `HTTP ${status}` : "none: dropped";
  return `HTTP 101, ${close ? `then close ${close.code}` : held ? "still open" : "then dropped"}`;
}

/** What was measured: pairs of a name and a value. */
export function facts(report) {
  const { connections, upgraded, held, sent, pongs, reached, delivered, memory, ms, heard, verdict } = report;
  const found = [];
  if (verdict) found.push(["verdict", verdict.count > 1 ? `${verdict.code} × ${verdict.count}` : verdict.code]);
  if (connections > 1) found.push(["upgraded", `${upgraded} of ${connections}`], ["still open", `${held}`]);
  else found.push(["answer", answer(report)]);
  if (heard !== undefined) found.push(["page read", plural(heard, "message")]);
  if (connections === 1 && reached !== undefined) {
    found.push(["reached the app", plural(reached, "message")], ["passed on", `${number(delivered)} times`]);
  }
  if (pongs) found.push(["pongs sent", number(pongs)]);
  if (sent > 1024) found.push(["attacker sent", bytes(sent)]);
  if (memory !== undefined) found.push(["memory, peak", `+ ${bytes(memory)}`]);
  found.push(["took", duration(ms)]);
  return found;
}
