package dynamo_test

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"piivault/internal/dynamo"
)

// described is a records table as Terraform makes it; ttl and recovery follow
// in answers of their own.
const described = `{"Table":{"TableStatus":"ACTIVE","DeletionProtectionEnabled":true,
"KeySchema":[{"AttributeName":"pk","KeyType":"HASH"},{"AttributeName":"sk","KeyType":"RANGE"}],
"AttributeDefinitions":[{"AttributeName":"pk","AttributeType":"S"},{"AttributeName":"sk","AttributeType":"S"},{"AttributeName":"gap","AttributeType":"S"}],
"GlobalSecondaryIndexes":[{"IndexName":"by-gap","IndexStatus":"ACTIVE","KeySchema":[{"AttributeName":"gap","KeyType":"HASH"},{"AttributeName":"pk","KeyType":"RANGE"}]}],
"Replicas":[{"RegionName":"us-east-1"}]}}`

const (
	ttlEnabled = `{"TimeToLiveDescription":{"TimeToLiveStatus":"ENABLED","AttributeName":"ttl"}}`
	recovery   = `{"ContinuousBackupsDescription":{"ContinuousBackupsStatus":"ENABLED","PointInTimeRecoveryDescription":{"PointInTimeRecoveryStatus":"ENABLED"}}}`
)

func inspect(t *testing.T, answers ...answer) (dynamo.Inspection, error) {
	t.Helper()
	table := dynamo.Table{Name: "records", Global: true, Indexes: []dynamo.Index{{Name: "by-gap", Hash: "gap", Range: dynamo.PK}}}
	return client(t, &scripted{answers: answers}).Inspect(t.Context(), table)
}

func TestInspect(t *testing.T) {
	got, err := inspect(t, says(http.StatusOK, described), says(http.StatusOK, ttlEnabled), says(http.StatusOK, recovery))
	want := dynamo.Inspection{Active: true, TTL: true, Protected: true, Replicas: []string{"us-east-1"}, Recovery: "ENABLED"}
	got.Skew, got.SkewKnown = 0, false
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
}

func TestInspectFindsDifferences(t *testing.T) {
	for want, edit := range map[string][2]string{
		"its key is not pk, sk, both strings":     {`"AttributeName":"sk","KeyType":"RANGE"`, `"AttributeName":"id","KeyType":"RANGE"`},
		"index by-gap is not there":               {`"IndexName":"by-gap"`, `"IndexName":"by-other"`},
		"index by-gap has another key than gap":   {`{"AttributeName":"gap","AttributeType":"S"}`, `{"AttributeName":"gap","AttributeType":"N"}`},
		"index by-gap is not active":              {`"IndexStatus":"ACTIVE"`, `"IndexStatus":"CREATING"`},
		"its key is not pk, sk, both strings\x00": {`"AttributeName":"pk","AttributeType":"S"`, `"AttributeName":"pk","AttributeType":"B"`},
	} {
		text := strings.Replace(described, edit[0], edit[1], 1)
		got, err := inspect(t, says(http.StatusOK, text), says(http.StatusOK, ttlEnabled), says(http.StatusOK, recovery))
		if err != nil || !slices.ContainsFunc(got.Wrong, func(w string) bool { return strings.Contains(w, strings.TrimSuffix(want, "\x00")) }) {
			t.Errorf("%q: %v, %v", want, got.Wrong, err)
		}
	}
	got, err := inspect(t, says(http.StatusOK, described), says(http.StatusOK, `{"TimeToLiveDescription":{"TimeToLiveStatus":"ENABLED","AttributeName":"other"}}`),
		fails(http.StatusBadRequest, "UnknownOperationException"))
	if err != nil || got.TTL || got.Recovery != "" {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestInspectOfWhatIsNotThere(t *testing.T) {
	if _, err := inspect(t, fails(http.StatusBadRequest, "ResourceNotFoundException")); !errors.Is(err, dynamo.ErrNoTable) {
		t.Error(err)
	}
	if _, err := inspect(t, says(http.StatusOK, described), fails(http.StatusBadRequest, "AccessDeniedException")); !errors.Is(err, dynamo.ErrDenied) {
		t.Error(err)
	}
}
