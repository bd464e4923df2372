// Package vault is the domain and its only orchestrator: each use case reads
// top-down and calls the leaves (crypto, store, audit, authz, pii), which do
// not know each other.
package vault

// Use cases, agreed (bodies follow):
//
//	func (v *Vault) Authenticate(ctx context.Context, credential secret.Text) (Principal, error)
//	func (v *Vault) Tokenize(ctx context.Context, c Call, req TokenizeRequest) ([]Tokenized, error)
//	func (v *Vault) Detokenize(ctx context.Context, c Call, req DetokenizeRequest) (DetokenizeResult, error)
//	func (v *Vault) Inspect(ctx context.Context, c Call, tokens []secret.Text) ([]Inspected, error)
//	func (v *Vault) Erase(ctx context.Context, c Call, req EraseRequest) (EraseResult, error)
//	func (v *Vault) Types(ctx context.Context, c Call) ([]TypeInfo, error)
//	func (v *Vault) Regions(ctx context.Context, c Call) (RegionsResult, error)
//	func (v *Vault) StartRepair(ctx context.Context, c Call) error
//	func (v *Vault) RepairStatus(ctx context.Context, c Call) (RepairStatus, error)
//	func (v *Vault) CreateKey(ctx context.Context, c Call, req NewKeyRequest) (NewKeyResult, error)
//	func (v *Vault) ListKeys(ctx context.Context, c Call) ([]KeyInfo, error)
//	func (v *Vault) RevokeKey(ctx context.Context, c Call, id string) (RevokeResult, error)
//	func (v *Vault) QueryAudit(ctx context.Context, c Call, req AuditRequest) (AuditResult, error)
//	func (v *Vault) Ready(ctx context.Context) map[string]error   // dependency name → nil or why not
