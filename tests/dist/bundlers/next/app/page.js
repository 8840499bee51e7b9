export default function Page() {
  return <p>A chat</p>;
}
