package awshttp

// callStack is about what a call of the SDK's takes of the stack: its handlers
// are nested some sixty deep.
const callStack = 24 << 10

// Deepen makes room for a call on the goroutine's stack at once. Calls mostly
// run on goroutines of their own, which begin with a stack of a few KB; grown
// by doubling in the depth of the SDK, it is copied three times, frame by
// frame, which was a sixth of a request's CPU time.
func Deepen() { _ = deepen(0) }

//go:noinline
func deepen(i uint) byte {
	var room [callStack]byte
	return room[i%callStack]
}
