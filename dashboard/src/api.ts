// The node's HTTP API as this page uses it; docs/api/openapi.yaml is its definition.

export interface Status {
  id: string; name: string; overlay_addr: string; chain_id: string; height: number; state_root: string;
  view: number; final_time_ms: number; block_time_ms: number; epoch: number; validators: number;
  quorum: number; peers_connected: number; pending_ops: number; syncing: boolean; ready: boolean;
  finality_p50_us: number; finality_p99_us: number; ops_final: number; chunks_stored: number;
  chunk_bytes_stored: number; uptime_ms: number; version: string;
}
export interface MeshNode {
  id: string; name: string; addr: string; overlay_addr: string; state: "up" | "down" | "connecting" | "refused";
  self: boolean; reason: string; since_ms: number; height: number; state_root: string; rtt_us: number;
  bytes_sent: number; bytes_received: number; power: number;
}
export interface Commitment { size: number; chunk_bytes: number; chunks: number; root: string }
export interface Asset {
  id: string; kind: string; name: string; owner: string; owner_name: string; state: string; policy: string;
  addr: string; registered_height: number; updated_height: number; revision: number; registered_op: string;
  grants: { node: string; rights: ("read" | "use" | "manage")[] }[]; content: Commitment | null;
}
export interface Page<T> { items: T[]; next: string | null }
export interface HistoryEntry { height: number; time_ms: number; op: string; action: string; actor: string; detail: string }
export interface Operation {
  id: string; height: number; index: number; module: string; kind: string; owner: string; asset: string;
  nonce: number; time_ms: number; payload: Record<string, unknown> | null;
}
export interface Proof { name: string; passed: boolean; summary: string; checks: { what: string; passed: boolean; detail: string }[] }
export interface Block {
  height: number; id: string; parent: string; view: number; proposer: string; proposer_name: string;
  time_ms: number; epoch: number; ops_root: string; ops_count: number; state_root: string; ops: string[];
}
export type EventType = "final" | "peer_up" | "peer_down" | "refused" | "evidence" | "sync" | "repair";
export interface NodeEvent {
  seq: number; wall_ms: number; type: EventType; height: number; count: number; finality_us: number;
  hash: string; peer: string; text: string;
}

export class ApiError extends Error {
  constructor(readonly status: number, readonly code: string, message: string) {
    super(message);
  }
}

export async function get<T>(path: string): Promise<T> {
  let response: Response;
  try {
    response = await fetch(path, { headers: { accept: "application/json" }, cache: "no-store" });
  } catch {
    throw new ApiError(0, "unreachable", "The node does not answer. It may be stopped; this page keeps trying.");
  }
  if (!response.ok) {
    const body = (await response.json().catch(() => null)) as { error?: { code?: string; message?: string; detail?: string } } | null;
    const e = body?.error;
    throw new ApiError(response.status, e?.code ?? "error", [e?.message ?? response.statusText, e?.detail].filter(Boolean).join(": "));
  }
  return (await response.json()) as T;
}

const q = (params: Record<string, string>): string => {
  const set = Object.entries(params).filter(([, v]) => v !== "");
  return set.length ? `?${new URLSearchParams(set).toString()}` : "";
};

export const api = {
  status: () => get<Status>("/v1/status"),
  nodes: () => get<{ items: MeshNode[] }>("/v1/nodes").then((r) => r.items),
  assets: (p: { q: string; kind: string; state: string; cursor: string }) =>
    get<Page<Asset>>(`/v1/assets${q({ ...p, limit: "50" })}`),
  asset: (id: string) => get<Asset>(`/v1/assets/${id}`),
  history: (id: string) => get<{ items: HistoryEntry[] }>(`/v1/assets/${id}/history`).then((r) => r.items),
  operation: (id: string) => get<Operation>(`/v1/operations/${id}`),
  proofs: (id: string) => get<{ items: Proof[] }>(`/v1/operations/${id}/proofs`).then((r) => r.items),
  blocks: () => get<Page<Block>>("/v1/blocks?limit=12"),
  block: (height: string) => get<Block>(`/v1/blocks/${height}`),
};

/** Live events; the browser reconnects by itself, `live` tells whether the line stands. */
export function subscribe(on: (e: NodeEvent) => void, live: (up: boolean) => void): void {
  const source = new EventSource("/v1/events");
  source.onopen = () => live(true);
  source.onerror = () => live(false);
  const types: EventType[] = ["final", "peer_up", "peer_down", "refused", "evidence", "sync", "repair"];
  for (const type of types)
    source.addEventListener(type, (m) => on(JSON.parse((m as MessageEvent<string>).data) as NodeEvent));
}
