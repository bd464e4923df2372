package kmsserver

import (
	"strings"
	"time"
)

// Limits and defaults of the API reference.
const (
	minWaitDays    = 7
	maxWaitDays    = 30
	signAlgorithm  = "ED25519_SHA_512"
	usageEncrypt   = "ENCRYPT_DECRYPT"
	usageSign      = "SIGN_VERIFY"
	validationCode = "ValidationException"
)

// epochTime is a time as AWS's JSON has it: seconds with a fraction.
type epochTime float64

func epoch(t time.Time) epochTime { return epochTime(float64(t.UnixMilli()) / 1000) }

// metadata is KeyMetadata.
type metadata struct {
	Account     string              `json:"AWSAccountId"`
	Arn         string              `json:"Arn"`
	KeyID       string              `json:"KeyId"`
	Created     epochTime           `json:"CreationDate"`
	Deletion    epochTime           `json:"DeletionDate,omitzero"`
	Description string              `json:"Description"`
	Enabled     bool                `json:"Enabled"`
	Manager     string              `json:"KeyManager"`
	Spec        string              `json:"KeySpec"`
	OldSpec     string              `json:"CustomerMasterKeySpec"`
	State       string              `json:"KeyState"`
	Usage       string              `json:"KeyUsage"`
	Origin      string              `json:"Origin"`
	Encryption  []string            `json:"EncryptionAlgorithms,omitzero"`
	Signing     []string            `json:"SigningAlgorithms,omitzero"`
	MultiRegion bool                `json:"MultiRegion"`
	Family      *multiRegionMembers `json:"MultiRegionConfiguration,omitzero"`
}

type multiRegionMembers struct {
	Type     string   `json:"MultiRegionKeyType"`
	Primary  member   `json:"PrimaryKey"`
	Replicas []member `json:"ReplicaKeys"`
}

type member struct {
	Arn    string `json:"Arn"`
	Region string `json:"Region"`
}

// find takes a key's id or ARN, and answers with a copy.
func (s *Server) find(r *region, name string) (arn string, k key, err error) {
	arn = name
	switch {
	case name == "":
		return "", key{}, refused(validationCode, "KeyId is missing.")
	case !strings.HasPrefix(name, "arn:"):
		arn = r.arn(name)
	case regionOf(name) != r.name:
		return "", key{}, refused("NotFoundException", "Invalid arn "+regionOf(name))
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	found := r.keys[arn]
	if found == nil {
		return "", key{}, refused("NotFoundException", "Key '"+arn+"' does not exist")
	}
	return arn, *found, nil
}

// use finds a key that is enabled and for this usage.
func (s *Server) use(r *region, name, usage string) (arn string, k key, err error) {
	arn, k, err = s.find(r, name)
	if err != nil {
		return "", key{}, err
	}
	if err := k.unusable(arn); err != nil {
		return "", key{}, err
	}
	if k.usage() != usage {
		return "", key{}, refused("InvalidKeyUsageException", arn+" key usage is "+k.usage()+" which is not valid for this operation.")
	}
	return arn, k, nil
}

func (k key) usage() string {
	if k.Spec == Ed25519 {
		return usageSign
	}
	return usageEncrypt
}

func (k key) unusable(arn string) error {
	switch k.state() {
	case stateDisabled:
		return refused("DisabledException", arn+" is disabled.")
	case statePendingDeletion:
		return pendingDeletion(arn)
	}
	return nil
}

func pendingDeletion(arn string) error {
	return refused("KMSInvalidStateException", arn+" is pending deletion.")
}

// keyRequest is all that many operations take.
type keyRequest struct {
	KeyID string `json:"KeyId"`
}

func (s *Server) createKey(r *region, in struct {
	Spec        string `json:"KeySpec"`
	OldSpec     string `json:"CustomerMasterKeySpec"`
	Usage       string `json:"KeyUsage"`
	Description string
	MultiRegion bool
	Origin      string
},
) (any, error) {
	if in.Spec == "" {
		in.Spec = in.OldSpec
	}
	if in.Spec == "" {
		in.Spec = Symmetric
	}
	k := key{Spec: in.Spec}
	switch {
	case in.Spec != Symmetric && in.Spec != Ed25519:
		return nil, refused("UnsupportedOperationException", "KeySpec "+in.Spec+" is not supported here.")
	case in.Usage == "" && in.Spec == Ed25519:
		return nil, refused(validationCode, "You must specify a KeyUsage value for an asymmetric KMS key.")
	case in.Usage != "" && in.Usage != k.usage():
		return nil, refused(validationCode, "KeyUsage "+in.Usage+" is not compatible with KeySpec "+in.Spec+".")
	case in.Origin != "" && in.Origin != "AWS_KMS":
		return nil, refused("UnsupportedOperationException", "Origin "+in.Origin+" is not supported here.")
	}
	arn, err := s.CreateKey(KeySpec{Region: r.name, Spec: in.Spec, MultiRegion: in.MultiRegion, Description: in.Description})
	if err != nil {
		return nil, err
	}
	return s.describeKey(r, keyRequest{arn})
}

func (s *Server) describeKey(r *region, in keyRequest) (any, error) {
	arn, k, err := s.find(r, in.KeyID)
	if err != nil {
		return nil, err
	}
	return map[string]metadata{"KeyMetadata": s.metadata(arn, k)}, nil
}

func (s *Server) metadata(arn string, k key) metadata {
	m := metadata{
		Account: account, Arn: arn, KeyID: keyID(arn), Created: epoch(k.Created), Description: k.Description,
		Enabled: k.state() == stateEnabled, Manager: "CUSTOMER", Spec: k.Spec, OldSpec: k.Spec, State: k.state(),
		Usage: k.usage(), Origin: "AWS_KMS", MultiRegion: k.Primary != "",
	}
	if !k.Deletion.IsZero() {
		m.Deletion = epoch(k.Deletion)
	}
	if k.usage() == usageEncrypt {
		m.Encryption = []string{Symmetric}
	} else {
		m.Signing = []string{signAlgorithm}
	}
	if m.MultiRegion {
		m.Family = s.members(arn, k)
	}
	return m
}

func (s *Server) members(arn string, k key) *multiRegionMembers {
	s.mu.RLock()
	defer s.mu.RUnlock()
	family := &multiRegionMembers{Type: "REPLICA", Replicas: []member{}}
	if k.Primary == regionOf(arn) {
		family.Type = "PRIMARY"
	}
	for _, name := range s.config.Regions {
		sibling := member{s.regions[name].arn(keyID(arn)), name}
		if name == k.Primary {
			family.Primary = sibling
		} else if s.regions[name].keys[sibling.Arn] != nil {
			family.Replicas = append(family.Replicas, sibling)
		}
	}
	return family
}

func (s *Server) replicateKey(r *region, in struct {
	KeyID  string `json:"KeyId"`
	Region string `json:"ReplicaRegion"`
},
) (any, error) {
	arn, k, err := s.find(r, in.KeyID)
	if err != nil {
		return nil, err
	}
	to := s.regions[in.Region]
	switch {
	case k.Primary != r.name:
		return nil, refused("UnsupportedOperationException", arn+" is not a multi-Region primary key.")
	case k.state() != stateEnabled:
		return nil, k.unusable(arn)
	case to == nil || to == r:
		return nil, refused(validationCode, "ReplicaRegion is not another region that is served here.")
	}
	if _, _, err := s.find(to, to.arn(keyID(arn))); err == nil {
		return nil, refused("AlreadyExistsException", "The replica is there already.")
	}
	replica, err := s.Replicate(arn, to.name)
	if err != nil {
		return nil, err
	}
	_, k, err = s.find(to, replica)
	if err != nil {
		return nil, err
	}
	return map[string]any{"ReplicaKeyMetadata": s.metadata(replica, k)}, nil
}

func (s *Server) enableKey(r *region, in keyRequest) (any, error) {
	return s.setEnabled(r, in, true)
}

func (s *Server) disableKey(r *region, in keyRequest) (any, error) {
	return s.setEnabled(r, in, false)
}

func (s *Server) setEnabled(r *region, in keyRequest, enabled bool) (any, error) {
	arn, _, err := s.find(r, in.KeyID)
	if err != nil {
		return nil, err
	}
	return struct{}{}, s.SetEnabled(arn, enabled)
}

func (s *Server) scheduleKeyDeletion(r *region, in struct {
	KeyID string `json:"KeyId"`
	Days  *int   `json:"PendingWindowInDays"`
},
) (any, error) {
	arn, _, err := s.find(r, in.KeyID)
	if err != nil {
		return nil, err
	}
	days := maxWaitDays
	if in.Days != nil {
		days = *in.Days
	}
	if days < minWaitDays || days > maxWaitDays {
		return nil, refused(validationCode, "PendingWindowInDays must be 7 to 30.")
	}
	if err := s.ScheduleDeletion(arn, time.Duration(days)*24*time.Hour); err != nil {
		return nil, err
	}
	_, k, err := s.find(r, arn)
	if err != nil {
		return nil, err
	}
	return map[string]any{"KeyId": arn, "DeletionDate": epoch(k.Deletion), "KeyState": k.state(), "PendingWindowInDays": days}, nil
}

func (s *Server) cancelKeyDeletion(r *region, in keyRequest) (any, error) {
	arn, _, err := s.find(r, in.KeyID)
	if err != nil {
		return nil, err
	}
	return keyRequest{arn}, s.CancelDeletion(arn)
}
