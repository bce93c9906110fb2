// Package release chooses what a release holds: the items of greatest value under a capacity, each together with
// what it requires. It is pure: the same items give the same choice.
//
// Points are counted in thousandths, as integers, so that a sum does not depend on its order and "fits" is exact.
// Items that require one another in a circle are one bundle: all of them or none.
//
//   - [Choose] searches by branch and bound. The bound of a node is the fractional knapsack of what is still free,
//     prerequisites ignored: a relaxation, so no plan can be worth more. Up to [ExactItems] items the search may visit
//     [searchNodes] nodes; when it ends within them the choice is proven best. Beyond either limit the choice is the
//     greedy one (or what the search found better), and Bound says what no plan can exceed.
//   - [Order] is the greedy order itself: again and again the bundle (an item with what it still requires) of the
//     greatest value per cost. The backlog is ranked by it.
//
// # What it does not do yet
//
// The bound of many items with many prerequisites is loose, since it ignores them; a minimum cut would tighten it.
// Exclusions, must-haves and deadlines of items are not known.
package release
