// Package e2e tests guarantees on whole processes: the vault command as it is
// built, and regions that are killed or lose power at any step. Its tests are
// the package; people.sh beside them runs the main job in full.
package e2e
