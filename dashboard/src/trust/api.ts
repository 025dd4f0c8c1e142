// The authority's HTTP API as this page uses it; docs/api/trustchain.yaml is its definition.
import { get, getText, id, post, query, type Page } from "../api";

export type Family = "mesh" | "edge";
export interface Issued {
  serial: string; family: Family; subject: string; not_before_ms: number; not_after_ms: number;
  state: "valid" | "expired" | "revoked"; revoked_ms?: number; reason?: string;
}
/** One certificate and that of the CA which issued it, which may be another than the one that issues now; PEM. */
export interface Shown extends Issued { certificate: string; issuing: string }
export interface Actor { name: string; role: "viewer" | "operator" | "authority" }
export interface TokenInfo extends Actor { made_ms: number; ends_ms: number }
export interface CertificateQuery { q: string; name: string; family: string; cursor: string }

export const trust = {
  list: (p: CertificateQuery, limit: number) => get<Page<Issued>>(`/v1/certificates${query({ ...p, limit: String(limit) })}`),
  show: (serial: string) => get<Shown>(`/v1/certificates/${id(serial)}`),
  issue: (csr: string, profile: string, life: { life_seconds?: number }) => post<Issued & { chain: string }>("/v1/certificates", { csr, profile, ...life }),
  revoke: (serial: string, reason: string) => post<Issued>(`/v1/certificates/${id(serial)}/revoke`, { reason }),
  logKey: () => getText("/v1/log/key"),
  checkpoint: () => getText("/log/checkpoint"),
  inclusion: (index: number, size: number) => get<{ hashes: string[] }>(`/v1/log/inclusion?index=${index}&size=${size}`),
  consistency: (from: number, size: number) => get<{ hashes: string[] }>(`/v1/log/consistency?from=${from}&size=${size}`),
  audit: (cursor: string, limit: number) => getText(`/v1/audit${query({ cursor, limit: String(limit) })}`),
  whoami: () => get<Actor>("/v1/whoami"),
  tokens: () => get<{ items: TokenInfo[] }>("/v1/tokens").then((p) => p.items),
};
