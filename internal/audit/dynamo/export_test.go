package dynamo

import (
	"piivault/internal/audit"
	"piivault/internal/dynamo"
)

func BlockKey(log audit.LogName, number uint64) dynamo.Key { return blockKey(log, number) }
