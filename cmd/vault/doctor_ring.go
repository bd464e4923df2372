package main

import (
	"context"
	"fmt"

	"piivault/cmd/vault/internal/bulk"
	"piivault/internal/authz"
	"piivault/internal/crypto"
	storedynamo "piivault/internal/store/dynamo"
	"piivault/internal/vault"
)

// newRing looks for what a ring that no instance has claimed would lose, as
// the first instance that starts with it will.
func (f *findings) newRing(ctx context.Context, e *edges, ring *crypto.Ring, control authz.Control) {
	records := storedynamo.New(storedynamo.Config{Client: e.localFirst()[0], Table: e.cfg.Tables.Records, Now: f.a.now})
	loss, err := vault.RingCheck{Ring: ring, Control: control, Table: records, Now: f.a.now}.Loss(ctx)
	f.loss(ring.Epoch(), loss, err, e.cfg.Ring.AcceptLoss)
}

func (f *findings) loss(epoch uint64, loss vault.RingLoss, err error, accepted bool) {
	const do = "leave the ring as it is until vault repair --watch says that nothing remains; for what is lost anyway, such as with a region that is gone for good: ring.accept_loss"
	switch {
	case err != nil:
		f.warn("whether the new key ring would lose anything cannot be told now", "look again when all tables can be read")
	case loss.None():
		f.good("no instance has claimed ring epoch %d yet; with it every record and tenant secret here can be opened", epoch)
	case accepted:
		f.warn(lossText(loss), "ring.accept_loss gives them up; take it out again after the change")
	default:
		f.fail(lossText(loss), do)
	}
}

func lossText(loss vault.RingLoss) string {
	text := fmt.Sprintf("with the new key ring nobody could open %s records and %s tenant secrets", bulk.Count(int64(loss.Records)), bulk.Count(int64(loss.Secrets)))
	if loss.Unknown {
		text += ", and there are more to look at than can be"
	}
	return text
}
